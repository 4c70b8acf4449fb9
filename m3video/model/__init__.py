import logging

# Where torchao is installed, transformers imports it, and it logs warnings about kernels for GPUs that are not here.
for name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(name).setLevel(logging.ERROR)
