//! sqlparser's tokens with their bytes, and a cursor over them. It knows no grammar.

use std::ops::Range;

use sqlparser::dialect::DatabricksDialect;
use sqlparser::tokenizer::{Location, Token, Tokenizer, Word};

/// The tokens of a text, and how far they were read.
#[derive(Default)]
pub(super) struct Tokens {
    tokens: Vec<(Token, Range<usize>)>,
    at: usize,
    /// bytes of the text
    length: usize,
    /// byte at which each line starts
    lines: Vec<usize>,
}

impl Tokens {
    /// Cuts a text into tokens. `>>` becomes two `>`, since it closes two types.
    pub fn new(text: &str) -> Result<Self, (Range<usize>, String)> {
        let lines: Vec<_> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let dialect = DatabricksDialect {};
        let cut = Tokenizer::new(&dialect, text)
            .tokenize_with_location()
            .map_err(|error| (Bytes::of(text).at(error.location)..text.len(), error.message))?;
        let mut bytes = Bytes::of(text);
        let mut tokens = Vec::new();
        for cut in cut {
            let span = bytes.at(cut.span.start)..bytes.at(cut.span.end);
            match cut.token {
                Token::Whitespace(_) | Token::EOF => {}
                Token::ShiftRight => {
                    tokens.push((Token::Gt, span.start..span.start + 1));
                    tokens.push((Token::Gt, span.start + 1..span.end));
                }
                token => tokens.push((token, span)),
            }
        }
        Ok(Tokens { tokens, at: 0, length: text.len(), lines })
    }

    /// The line of a byte, from 1.
    pub fn line(&self, byte: usize) -> usize {
        self.lines.partition_point(|start| *start <= byte)
    }

    /// The bytes of the next token.
    pub fn span(&self) -> Range<usize> {
        self.tokens.get(self.at).map_or(self.length..self.length, |(_, span)| span.clone())
    }

    pub fn is_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub fn is(&self, token: &Token) -> bool {
        self.is_at(0, token)
    }

    pub fn is_at(&self, ahead: usize, token: &Token) -> bool {
        self.tokens.get(self.at + ahead).is_some_and(|(next, _)| next == token)
    }

    /// The unquoted word so far ahead, in capitals.
    pub fn word_at(&self, ahead: usize) -> Option<String> {
        match self.tokens.get(self.at + ahead) {
            Some((Token::Word(word), _)) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        }
    }

    pub fn is_word(&self, word: &str) -> bool {
        self.word_at(0).as_deref() == Some(word)
    }

    pub fn take(&mut self, token: &Token) -> bool {
        let there = self.is(token);
        self.at += usize::from(there);
        there
    }

    pub fn take_word(&mut self, word: &str) -> bool {
        self.take_words(&[word])
    }

    /// All of the words, or none of them.
    pub fn take_words(&mut self, words: &[&str]) -> bool {
        let there = words.iter().enumerate().all(|(ahead, word)| self.word_at(ahead).as_deref() == Some(word));
        self.at += if there { words.len() } else { 0 };
        there
    }

    /// A name, quoted or not.
    pub fn take_any_word(&mut self) -> Option<(Word, Range<usize>)> {
        match self.tokens.get(self.at) {
            Some((Token::Word(word), span)) => {
                self.at += 1;
                Some((word.clone(), span.clone()))
            }
            _ => None,
        }
    }

    /// A text in quotes.
    pub fn take_text(&mut self) -> bool {
        let there =
            matches!(self.tokens.get(self.at), Some((Token::SingleQuotedString(_) | Token::DoubleQuotedString(_), _)));
        self.at += usize::from(there);
        there
    }

    /// A number without sign or fraction.
    pub fn take_number(&mut self) -> Option<u64> {
        let Some((Token::Number(digits, _), _)) = self.tokens.get(self.at) else { return None };
        let number = digits.parse().ok()?;
        self.at += 1;
        Some(number)
    }

    /// Behind an opening parenthesis: moves behind the closing one; answers the bytes between them.
    pub fn skip_to_closing(&mut self) -> Option<Range<usize>> {
        let start = self.span().start;
        let mut depth = 1;
        while let Some((token, span)) = self.tokens.get(self.at) {
            match token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(start..span.start);
            }
        }
        None
    }

    /// Moves to the next `,` or `)` that is not inside parentheses.
    pub fn skip_item(&mut self) {
        while let Some((token, _)) = self.tokens.get(self.at) {
            match token {
                Token::Comma | Token::RParen => return,
                Token::LParen => {
                    self.at += 1;
                    if self.skip_to_closing().is_none() {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// Behind a type's name that nobody knows: moves past what stands in its `(…)` or `<…>`.
    pub fn skip_arguments(&mut self) {
        if self.take(&Token::LParen) {
            self.skip_to_closing();
            return;
        }
        let mut depth = 0;
        while let Some((token, _)) = self.tokens.get(self.at) {
            match token {
                Token::Lt => depth += 1,
                Token::Gt if depth > 0 => depth -= 1,
                _ if depth == 0 => return,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }
}

/// Turns lines and columns, asked for in order, into bytes: one pass over the text, however long its lines are.
struct Bytes<'t> {
    text: &'t str,
    byte: usize,
    line: u64,
    column: u64,
}

impl<'t> Bytes<'t> {
    fn of(text: &'t str) -> Self {
        Bytes { text, byte: 0, line: 1, column: 1 }
    }

    fn at(&mut self, location: Location) -> usize {
        while (self.line, self.column) < (location.line, location.column) {
            match self.text[self.byte..].chars().next() {
                Some('\n') => (self.line, self.column, self.byte) = (self.line + 1, 1, self.byte + 1),
                Some(other) => (self.column, self.byte) = (self.column + 1, self.byte + other.len_utf8()),
                None => break,
            }
        }
        self.byte
    }
}
