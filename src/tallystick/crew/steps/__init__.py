"""Steps forked from a zygote: the zygote, the keeper of each step, and the fence that each is put behind."""
