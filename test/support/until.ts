/** Asks again and again until there is an answer; rejects after a minute, or `seconds`. For what other processes do. */
export async function untilAnswer<T>(
  what: string,
  ask: () => Promise<T | undefined | false>,
  { seconds = 60 }: { readonly seconds?: number } = {},
): Promise<T> {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    const answer = await ask()
    if (answer !== undefined && answer !== false) return answer
    await new Promise((resolve) => {
      setTimeout(resolve, 50)
    })
  }
  throw new Error(`${what}: not within ${seconds} s`)
}
