"""A turn: one call of an agent's graph, from where its run stands to its next pause or its end."""
