"""One story of a run out of all that its engines know: a file for each layer, and `story` which joins them."""
