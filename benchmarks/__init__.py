"""How much the inventory costs, against a bare Starlette answer in the same run."""
