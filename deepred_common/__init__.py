"""DeepRed Temporal's shared library: what two scripts need, or what deserves a test of its own.

One noun a module, in rooms (the folders below); tests/test_layout.py enforces which may import which.
Importing any module never imports torch or transformers: the functions that need them import them when
called, so that `--help` and every usage error answer at once.
"""
