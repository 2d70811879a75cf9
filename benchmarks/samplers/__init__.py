"""How much a sampler gives for a log-volume, and whether what it gives follows the law asked for."""
