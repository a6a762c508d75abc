"""Any phone with a browser: the model runs there in WebAssembly, chats, and its figures come back."""
