"""Finds primes with `map`, sums them up with `submit`, and runs into a limit and an error."""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as OutOfTime

NUMBERS = [112272535095293, 1099726899285419, 97, 91, 2, 1, 115797848077099, 7919]


def is_prime(number: int) -> bool:
    """Whether a number is a prime, by trial of the small factors."""
    if number < 2:
        return False
    return all(number % factor for factor in range(2, min(math.isqrt(number), 2000) + 1))


def invert(number: int) -> float:
    """Fails for zero."""
    return 1 / number


with ThreadPoolExecutor() as executor:
    for number, prime in zip(NUMBERS, executor.map(is_prime, NUMBERS), strict=True):
        print(f"{number} is prime: {prime}")

    print("powers:", list(executor.map(pow, [2, 3, 5], [10, 5])))
    parts = [executor.submit(sum, range(start, start + 1000)) for start in range(0, 5000, 1000)]
    print("sum:", sum(part.result() for part in parts))

    results = executor.map(invert, [4, 2, 0, 1])
    try:
        for result in results:
            print("inverse:", result)
    except ZeroDivisionError as error:
        print("error:", error)

    try:
        for _ in executor.map(time.sleep, [0, 0.2], timeout=0.05):
            print("slept")
    except OutOfTime:
        print("out of time")
