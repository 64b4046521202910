"""What policies mean: who may reach whom, as the dataplane has it and as people ask."""
