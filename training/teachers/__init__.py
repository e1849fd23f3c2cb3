"""The networks that label recordings for the starter: public taggers, as small PyTorch modules."""
