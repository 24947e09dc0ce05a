#!/bin/bash
if python3 /tests/test_token_service.py; then
  echo 1 > /logs/verifier/reward.txt
else
  echo 0 > /logs/verifier/reward.txt
fi
