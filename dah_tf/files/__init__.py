"""Files that are whole or not there: durable writes and sealed JSON. Standard library only."""
