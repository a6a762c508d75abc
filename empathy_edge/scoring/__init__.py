"""How empathetic is a response, by explicit features?"""
