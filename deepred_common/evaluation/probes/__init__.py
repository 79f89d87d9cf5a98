"""Probe forms: ways to ask about a fact, one a module. `forms` lists them."""
