"""Applications that use the frameworks in as many ways as we know. Each module has build(trace) -> application."""
