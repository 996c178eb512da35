"""Source archives in, our tables out; a second run over the same source changes nothing."""
