"""Pages, one folder per subject: views, forms, addresses and what their templates show."""
