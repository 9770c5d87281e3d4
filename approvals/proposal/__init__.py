"""What is proposed: its exact bytes, its digest, its one sentence. Knows no database."""
