"""The inbox: its address, its list, its saved views, its export."""
