"""What training minimises: one objective a module. `catalogue` lists them."""
