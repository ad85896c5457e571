"""Measures Horo beside its peers on this machine: same load, same next hop, same run."""
