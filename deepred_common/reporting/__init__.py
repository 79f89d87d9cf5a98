"""What a person reads of an evaluation: the console's blocks and the HTML page."""
