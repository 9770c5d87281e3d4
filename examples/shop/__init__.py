"""A small mail-order shop over HTTP. Start with `app.py`; its data lives in `store.py`."""
