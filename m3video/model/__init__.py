import logging

# Where torchao is installed, transformers loads it at import, and it tells of kernels for GPUs that are not here.
for name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(name).setLevel(logging.ERROR)
