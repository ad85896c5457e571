"""Mail to bounce addresses: what it says of whom. Everything but `desk.py` is pure, and holds whatever the octets are."""
