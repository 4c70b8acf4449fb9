"""Names of the benchmarks, for the command line: nothing is imported for them."""

from __future__ import annotations

BENCHMARKS: dict[str, str] = {
    "video-mme": "Video-MME",
    "video-mme-v2": "Video-MME-v2",
    "mlvu": "MLVU",
    "longvideobench": "LongVideoBench",
    "lvbench": "LVBench",
    "egoschema": "EgoSchema",
    "next-qa": "NExT-QA, multiple choice",
    "next-qa-oe": "NExT-QA, open answers",
    "intent-qa": "IntentQA",
    "star": "STAR",
    "tempcompass": "TempCompass",
    "activitynet-qa": "ActivityNet-QA",
    "msvd-qa": "MSVD-QA",
    "msrvtt-qa": "MSRVTT-QA",
    "tgif-qa": "TGIF-QA, FrameQA",
}
"""Name on the command line -> the benchmark's own."""

WITH_SUBTITLES = ("video-mme", "video-mme-v2", "longvideobench")
OPEN = ("next-qa-oe", "activitynet-qa", "msvd-qa", "msrvtt-qa", "tgif-qa")
"""Sets whose published figures come from a judge or from WUPS."""
