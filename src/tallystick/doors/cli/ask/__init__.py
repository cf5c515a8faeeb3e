"""``tally predict``: from a file's rows and cells to an endpoint's tensors, and its answers back."""
