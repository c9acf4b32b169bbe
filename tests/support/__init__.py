"""What tests share. Nothing here is used by the product."""
