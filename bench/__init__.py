"""Measuring Gatepost and its peers: load, sink, corpus, meter, peers, and the run of all of it (`python -m bench`)."""
