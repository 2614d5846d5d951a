// Heads in hexadecimal, from either text form: 1.x writes them in hexadecimal, 2.x in base58check.
const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
const HASH_BYTES = 32
const CHECK_BYTES = 4

function one(text) {
  if (/^[0-9a-f]{64}$/.test(text)) return text
  let number = 0n
  for (const letter of text) {
    const digit = ALPHABET.indexOf(letter)
    if (digit < 0) throw new Error(`${text} is neither hexadecimal nor base58check`)
    number = number * 58n + BigInt(digit)
  }
  const hex = number.toString(16).padStart(2 * (HASH_BYTES + CHECK_BYTES), "0")
  return hex.slice(0, 2 * HASH_BYTES)
}

/** Sorted heads in hexadecimal; none gives none. */
export const hexHeads = heads => (heads ?? []).map(one).sort()
