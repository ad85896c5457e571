"""The expander: resolves groups into people, applies the filters, renders once per group, and publishes deliveries."""
