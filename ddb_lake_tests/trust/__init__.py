"""Can the lake be trusted? Faults, hostile input, secrets and soaks, and the program that runs them all.

python -m ddb_lake_tests.trust                     runs them and prints the figures
python -m ddb_lake_tests.trust --write             and writes the table of faults into the documentation
python -m ddb_lake_tests.trust soak --minutes 60   histories with faults at random, until the time is up
python -m ddb_lake_tests.trust follow-soak --minutes 60   two followers in real time, with faults at random

marks       which test covers which fault in which stages
way         an HTTP proxy before S3 that fails as S3 and networks do
naming      random attribute names through every step
mutating    bytes spoiled at random, from a seed
soaking     one history with faults at random, ended exact
follow_soaking  two followers' processes with faults at random, ended exact
recording   the tests' results as a table
"""
