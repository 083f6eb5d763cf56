"""The network: stem, encoder, bottleneck, decoder and head, and priors over its codes."""
