"""What ships beside the console to try it on: a small shop and the handbook its agent reads."""
