"""Members whose addresses do not work: which failures count, when a member is asked or suspended, and what people are told of it."""
