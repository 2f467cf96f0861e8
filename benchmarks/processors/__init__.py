"""The kernels on any processor: a folder is written here, carried there and measured; one file comes back."""
