#!/bin/bash
if [ "$(tr -d '[:space:]' < /app/bad_lines.txt)" = 3 ]; then
  echo 1 > /logs/verifier/reward.txt
else
  echo "expected 3 in /app/bad_lines.txt"
  echo 0 > /logs/verifier/reward.txt
fi
