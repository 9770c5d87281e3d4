"""What pages, the API and other planes read, one file per list. Writes nothing itself."""
