#!/bin/bash
if diff /tests/expected.csv /app/readings.csv; then
  echo 1 > /logs/verifier/reward.txt
else
  echo 0 > /logs/verifier/reward.txt
fi
