"""Does new data look like the training data?"""
