"""What travels: typed `messages`, their `commands`, the `codec` that makes them bytes, and the `limits` of all."""
