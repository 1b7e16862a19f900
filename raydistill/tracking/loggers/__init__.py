"""Other places that a sweep's events may go to beside MLflow: TensorBoard, and Weights & Biases."""
