#!/bin/bash
# The verifier's contract with Harbor: a number between 0 and 1 in /logs/verifier/reward.txt.
if [ "$(cat /app/hello.txt)" = 'Hello, world!' ]; then
  echo 1 > /logs/verifier/reward.txt
else
  echo "expected: Hello, world!"
  echo "found:    $(cat /app/hello.txt 2>&1)"
  echo 0 > /logs/verifier/reward.txt
fi
