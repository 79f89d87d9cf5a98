"""Training data: the bank of dated facts, the files built out of it, questions, and checks of any data."""
