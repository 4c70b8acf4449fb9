// Why the frame at the cursor was shown to the model, or not.

import { after, clock, counted } from "./dom.js";

const REASONS = {
  shot: "the first of its shot", slide: "the first of a slide", change: "much changes there", uniform: "evenly spaced",
  fps: "evenly spaced", num_frames: "evenly spaced", pinned: "pinned", gap: "it fills a gap",
};
const SAME = 1e-3;

/** Return the time of the analyzed frame that is on screen at a time: that is the one which a plan can show. */
export const shownTime = (data, time) => data.times[Math.max(0, after(data.times, time + SAME) - 1)];

/**
 * Return a line about the frame at a time.
 *
 * @param {object} data as /api/timeline returns it.
 * @param {object} record as /api/plan returns it.
 * @param {number} time seconds as players count.
 */
export function why(data, record, time) {
  const seen = shownTime(data, time);
  const isIt = (one) => Math.abs(one.pts_seconds - seen) < SAME;
  const reason = (one) => REASONS[one.reason] ?? one.reason;
  const shown = record.plan.frames.find(isIt);
  if (shown) return `This frame is shown, with ${counted(shown.scale, "token")}: ${reason(shown)}.`;
  const left = record.left_out.find(isIt);
  if (left) {
    const because = left.is_repeat ? "it repeats what another one shows" : "other frames are worth more of the budget";
    return `This frame was a candidate (${reason(left)}) and is left out: ${because}.`;
  }
  const before = record.plan.frames.findLast((one) => one.pts_seconds <= seen);
  const latest = before ? ` The latest one shown is ${clock(before.pts_seconds)}, with ${counted(before.scale, "token")}.` : "";
  return `This frame is none of the ${record.plan.num_candidates} candidates.${latest} Pin it to show it.`;
}
