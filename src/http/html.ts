/** Markup that is safe to put into a page as it is. Only `html` makes it. */
export class Markup {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

export type Content = Markup | string | number | null | readonly Content[]

/**
 * A template whose every value is escaped, so that nothing that comes from outside can become markup; values made by
 * `html` itself are taken as they are, null is nothing, lists are joined. Attribute values must stand in double quotes.
 * What cannot be seen in a value (newlines, controls, direction marks, zero-width) is written out: it could pass for
 * another name, or rearrange what stands around it.
 */
export function html(literals: TemplateStringsArray, ...values: readonly Content[]): Markup {
  return new Markup(literals.reduce((text, literal, index) => text + render(values[index - 1] ?? null) + literal))
}

/** A name from outside (a database, a repository): isolated from the direction of the text around it, its spaces shown. */
export function name(text: string): Markup {
  return html`<bdi class="name">${text.replace(/^ | (?= )| $/g, '\u00b7')}</bdi>`
}

function render(content: Content): string {
  if (content === null) return ''
  if (content instanceof Markup) return content.text
  if (typeof content === 'object') return content.map(render).join('')
  return escapeHtml(String(content))
}

const replacements: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
  '\n': '\\n',
  '\t': '\\t',
}

function escapeHtml(text: string): string {
  return text.replace(
    /[&<>"'\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu,
    (character) => replacements[character] ?? `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  )
}
