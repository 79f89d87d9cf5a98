"""DeepRed Temporal's shared library: what two scripts need, or what deserves a test of its own.

One noun per module. Imports point one way: scripts -> deepred_common -> libraries. Importing this package, or any
module of it, never imports torch or transformers: functions that need them import them when called, so that
`--help` and every usage error answer at once.
"""
