"""The benchmarks. `python -m benchmarks`, in the checkout, is the comparison of clients."""
