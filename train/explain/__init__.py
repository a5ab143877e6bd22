"""Which bands and which neighbours made a label: layer-wise relevance propagation through the scans."""
