"""From the received bytes to those that go on: fields taken out, replaced, put on top. It decides nothing."""
