"""Whether an answer's confidence means something: it is fitted to some questions and measured on others."""
