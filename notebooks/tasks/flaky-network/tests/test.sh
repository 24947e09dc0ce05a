#!/bin/bash
if [ "$(cat /app/data.txt)" = 42 ]; then
  echo 1 > /logs/verifier/reward.txt
else
  echo "/app/data.txt did not arrive"
  echo 0 > /logs/verifier/reward.txt
fi
