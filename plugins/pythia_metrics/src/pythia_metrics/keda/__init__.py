"""KEDA's external scaler contract: the extra ``keda``, which only ``pythia scaling serve --grpc`` imports."""
