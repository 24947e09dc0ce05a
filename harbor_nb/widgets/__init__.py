"""Widgets over the public calls: pick, load keys, launch, watch, explore and compare by clicking."""
